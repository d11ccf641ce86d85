"""Anomaly detection on the edge: `Scorer` for a gateway's channels, `ChannelDetector` for River users.

Importing this loads `river.base` only: neither `river.anomaly` nor numpy, scipy or pandas.
"""

from edge_agent.anomaly.detector import ChannelDetector
from edge_agent.anomaly.scorer import ChannelKey, Scorer
from shared.reading import Verdict

__all__ = ["ChannelDetector", "ChannelKey", "Scorer", "Verdict"]
