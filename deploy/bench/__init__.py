"""`make bench`: what this build does on this machine, with its spread."""
