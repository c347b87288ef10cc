# time: takes no signal for an answer
import os
import signal

for number in range(1, signal.NSIG):
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
while True:
    os.getpid()
