# time: is stopped, so that no signal but one reaches it
import os
import signal

os.kill(os.getpid(), signal.SIGSTOP)
