"""`make chaos`: everything is killed, many times, under load; then every accepted reading is accounted for."""
