"""What the routes of every sub-room work with: made once by `service`, given to each `router(rooms, guard)`."""

from collections.abc import Callable
from dataclasses import dataclass

from control_plane.db.connect import Pool
from control_plane.registry.access.logins import Logins
from control_plane.registry.access.token_uses import TokenUses
from control_plane.registry.broker import Broker
from control_plane.registry.credentials.rings import Rings
from control_plane.registry.credentials.rotator import Rotator
from control_plane.registry.credentials.store import Credentials
from control_plane.registry.enrolment.enroller import Desk
from control_plane.registry.fleet.changes import Changes
from control_plane.registry.fleet.finder import Finder
from control_plane.registry.fleet.importer import Importer
from control_plane.registry.fleet.privacy import Privacy
from control_plane.registry.mqtt_door.secrets import DoorSecrets
from control_plane.registry.pki.certificates import Certificates
from control_plane.registry.projector import Projector
from control_plane.registry.quarantine.keeper import Quarantine
from control_plane.registry.rebuild import Rebuild
from control_plane.registry.registrar import Registrar
from control_plane.registry.store import Store


@dataclass(frozen=True, slots=True)
class Rooms:
    """The registry's parts. `pseudonym`: of a device id, for events; `reconcile`: have broker and Postgres compared
    soon, by whichever process leads. `logins`: every door's way to try a credential.
    """

    database: Pool
    store: Store
    credentials: Credentials
    rings: Rings
    rotator: Rotator
    broker: Broker
    registrar: Registrar
    projector: Projector
    quarantine: Quarantine
    finder: Finder
    changes: Changes
    rebuild: Rebuild
    importer: Importer
    door_secrets: DoorSecrets
    privacy: Privacy
    pseudonym: Callable[[str], str]
    reconcile: Callable[[], None]
    enrolment: Desk
    logins: Logins
    token_uses: TokenUses
    certificates: Certificates | None
