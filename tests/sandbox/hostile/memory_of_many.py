# memory: no process holds much, all of them do
import os
import time

for _ in range(12):
    if os.fork() == 0:
        held = b"x" * (40 << 20)
        time.sleep(60)
time.sleep(60)
