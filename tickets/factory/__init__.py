"""How a ticket is found, proven and packed. The only package that imports torch."""
