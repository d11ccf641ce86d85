import pytest
from pydantic import BaseModel, ValidationError

from control_plane.registry.enrolment import documents


@pytest.mark.parametrize("document", [documents.NewToken, documents.EnrolmentRequest, documents.Report])
def test_the_examples_of_the_docs_are_accepted(document: type[BaseModel]) -> None:
    for example in document.model_json_schema()["examples"]:
        document.model_validate(example)


@pytest.mark.parametrize("devices", [[], [{"id": "x"}] * 101, [{"id": "a/b"}], [{"id": "x", "serial": "a\nb"}]])
def test_reports_that_make_no_sense(devices: list[dict[str, str]]) -> None:
    with pytest.raises(ValidationError):
        documents.Report.model_validate({"devices": devices})
