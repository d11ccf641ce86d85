"""edge-sim: a fleet of devices over real MQTT, with faults on request, each written down.

Devices only: it publishes what devices would publish and uses nothing of the agent but its MQTT connection.
"""
