# signal: ends by the signal that says nothing
import os
import signal

os.kill(os.getpid(), signal.SIGKILL)
