"""Built-in texts for a run that names no file: questions that customers of a bank or an airline might type.

Written for this project; no data set was copied. They make a server tokenize and run texts of
realistic length. They say nothing about quality: use `tombola evaluate` with labelled data for that.
"""

BANKING = (
    "how much money do i have in my savings account",
    "please send two hundred euros to my sister",
    "my card was swallowed by the machine at the station, what now",
    "can you raise my credit limit before the weekend",
    "what was the last thing i paid for with the blue card",
    "freeze my account, i think somebody has my password",
    "when is the next payment of my car loan due",
    "i do not recognise a charge of 48.90 from yesterday evening",
    "order me a new book of cheques",
    "what interest do i get if i leave the money for a year",
    "is there a fee when i pay abroad",
    "move everything above a thousand from checking to savings",
    "how long does a transfer to another bank take",
    "i forgot my pin, how do i get another one",
    "did my salary arrive already",
    "what documents do i need to open an account for my daughter",
    "pay the electricity bill from the joint account",
    "cancel the standing order to the gym",
    "what is the routing number of my account",
    "my new card has not come in the post yet",
    "how far am i over my overdraft",
    "i would like to repay the loan early, what would that cost",
    "show me what i spent on groceries in march",
    "why was my card declined at the petrol station",
    "what is my credit score at the moment",
    "can i change the address on my account from here",
    "exchange some dollars into pounds for me",
    "the cash machine gave me less than i asked for",
    "when do the points on my card expire",
    "report my wallet as stolen",
)

TRAVEL = (
    "book me a window seat to lisbon on friday morning",
    "do i need a visa to spend three weeks in vietnam",
    "how many bags may i bring without paying more",
    "my suitcase did not arrive with my flight",
    "is the train to the airport running tonight",
    "find a quiet hotel close to the old harbour",
    "what vaccinations should i have before going to kenya",
    "which gate does the flight to oslo leave from",
    "change my return ticket to the following monday",
    "what plug do they use in new zealand",
    "is it safe to walk around the centre at night",
    "rent a small car from the ninth to the twelfth",
    "how do i say where is the station in portuguese",
    "has my connection in frankfurt been delayed",
    "what is the time difference between here and lima",
    "how much is a taxi from the airport into town",
    "cancel the second night and keep the first",
    "can i take my dog on the ferry",
    "what should i see if i have one day in kyoto",
    "tell the bank that i will be in mexico next week",
    "what currency do they use in croatia now",
    "when does the boarding of flight 417 begin",
    "is there a direct bus from porto to santiago",
    "how warm is it in madeira in february",
    "which side of the road do they drive on in malta",
    "my passport runs out in two months, may i still travel",
    "i want to upgrade both seats on the way home",
    "are there lockers for luggage at the main station",
    "recommend a place to eat near the cathedral",
    "how early should i be at the terminal",
)


def sentences_for(domain: str) -> tuple[str, ...]:
    """Texts for ``domain``: its own where it is banking or travel, otherwise both lists."""
    return {"banking": BANKING, "travel": TRAVEL}.get(domain, BANKING + TRAVEL)
