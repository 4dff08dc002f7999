"""The starter family: tickets that travel with the package, so that `tombola up` has something to serve.

Data only: ``family.json`` names the bundles beside it. `server.starter` reads it; the factory makes it.
"""
