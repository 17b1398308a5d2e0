"""The demo. It drives the real `gtc` as a user would, puts real load on it, and judges by what clients saw.

main.py      arguments, signals, the exit status
story.py     what happens, in order
commands.py  running `gtc`
load.py      the clients
figures.py   what was seen, and whether it is as promised; pure
screen.py    what a person reads
state.py     the demo's own folder, what an earlier run left, and whether anything is left at the end
"""
