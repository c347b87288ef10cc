# disk: a million empty files
for at in range(10**6):
    open(f"file{at}", "w").close()
