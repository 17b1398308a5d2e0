"""A machine in virtual time: the real runtime, routers and engine, with users, operators and accidents, from one seed.

Real are the engine's transitions, the data plane that follows them, the supervision of routers, the control protocol on
both ends, leases, the router's HTTP parser, connections, selection, pins, cookies, keys, pools, drains. Simulated are
time, the processes and the wires between them, the workers, the people. Nothing waits for a real clock, and everything
that happens follows from the seed, so a life that went wrong can be lived again:

    python -m tests.simulation --seed 17

`oracle` says what must hold, from the record alone: it shares no code with what it judges.
"""
