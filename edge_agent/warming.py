"""`edge-agent warm`: a channel's history into the model file, while the agent does not run."""

from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.learning import open_scorer
from edge_agent.running import Claim
from edge_agent.warm import warm_csv
from shared.clock import SystemClock
from shared.errors import Permanent, Rejected, Transient
from shared.ids import is_device_id


def warm_file(
    config: AgentConfig, csv: Path, column: str, *, device: str, metric: str, interval_s: float
) -> dict[str, int]:
    """{"learned": rows, "empty": rows}. Raises Permanent where a person must act, Transient without a model file."""
    if not config.scoring:
        raise Permanent("scoring is off, so nothing learns", hint="set AGENT_SCORING=on")
    if not is_device_id(device):
        raise Permanent(f"{device[:80]!r} is no device id")
    if metric in config.unscored:
        raise Permanent(f"metric {metric} is not scored", hint="AGENT_UNSCORED names those that are not")
    with Claim(config.data_dir):
        scorer, store = open_scorer(config.models_path, config.model, config.max_channels)
        if store is None:
            raise Transient("the model file cannot be used", hint="check disk space and rights of AGENT_DATA_DIR")
        try:
            now_s = SystemClock().wall_ms() / 1_000
            report = warm_csv(
                csv, column, scorer=scorer, device_id=device, metric=metric, interval_s=interval_s, now_s=now_s
            )
            if isinstance(report, Rejected):
                raise Permanent(report.detail)
            store.save(scorer.dirty_channels(), scorer.gone_channels())
        finally:
            store.close()
    return {"learned": report.learned, "empty": report.empty}
