"""Finding a Java that Kafka can run on."""

import os
import re
import shutil
import subprocess
from pathlib import Path

LEAST_JAVA = 17


def version_of(java: Path) -> int:
    """The major version that this `java` reports; 0 if it does not run or says something else."""
    try:
        done = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else 0


def find_java() -> Path | None:
    """The first Java of at least version 17: of JAVA_HOME, of the PATH, of /usr/lib/jvm; None if there is none."""
    candidates = [Path(home) / "bin" / "java" for home in [os.environ.get("JAVA_HOME")] if home]
    on_path = shutil.which("java")
    candidates += [Path(on_path)] if on_path else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"), reverse=True)
    return next((java for java in candidates if version_of(java) >= LEAST_JAVA), None)
