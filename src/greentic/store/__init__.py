"""Where environments are kept. `contract` states what every store guarantees; `files` is the store of one machine."""
