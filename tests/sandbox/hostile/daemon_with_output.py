# ok: leaves a process behind that holds the output open
import os
import time

if os.fork() == 0:
    os.setsid()
    while True:
        time.sleep(0.01)
print("done")
