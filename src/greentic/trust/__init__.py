"""Who may vouch for what: keys, DSSE envelopes, trust roots, revenue policies and signed heads of the audit chain.

Everything here is a pure function of bytes, keys and the time, except `keys`, which reads and makes the operator key
file. Importing is cheap: `cryptography` is loaded by the first signature.
"""
