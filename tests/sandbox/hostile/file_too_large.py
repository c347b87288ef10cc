# disk: one file beyond what a file may be, with the signal that says so
import signal

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open("large", "wb") as file:
    file.truncate(1 << 40)
