"""Words that the edge and the hub share. Imports nothing else of ours; a gateway installs it whole."""
