# time: processes burn by turns that nobody is charged for, since nobody waits for them
import os
import signal
import time

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    for _ in range(2):
        if os.fork() == 0:
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                pass
            os._exit(0)
    time.sleep(0.2)
