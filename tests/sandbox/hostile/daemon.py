# ok: leaves a process behind that belongs to no session and ends never
import os
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 100)
        while True:
            time.sleep(0.01)
    os._exit(0)
