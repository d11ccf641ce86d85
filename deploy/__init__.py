"""How the hub is set up and run: the local stack, the demo, the bench, the packages."""
