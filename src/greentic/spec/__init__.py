"""The documents, their rules, the errors and the registry of verbs: the words everybody else uses.

Imports nothing of ours and does no input or output.
"""
