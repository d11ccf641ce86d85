"""Keys of devices: their life, their rotation, their end, and the door that they open at REST."""
