"""Facets of OpenLineage events: those of Envol, which OpenLineage has none for, and short ways to its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from envol.errors import UserError

try:
    import attr
    from openlineage.client import facet_v2 as facets
except ModuleNotFoundError as error:
    raise UserError(
        f"the package {error.name} is not installed", remedy='pip install "envol[lineage]"'
    ) from None

if TYPE_CHECKING:
    from envol.pipeline.lineage.origins import Lineage, Maker, Materialization, ModelOrigin

SCHEMA = "urn:envol:openlineage:1"
PRODUCER = f"urn:envol:{version('envol')}"
Facets = dict[str, Any]


@attr.define
class EnvolWindowDatasetFacet(facets.DatasetFacet):
    """Which windows of a table, and the snapshot of the lake that holds them as they were read or written."""

    first: str
    last: str
    start: str
    end: str
    windows: int
    quarantined: int = 0
    snapshot: int | None = None
    contentVersion: str | None = None  # noqa: N815
    madeAgain: int = 0  # noqa: N815

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMA}#/$defs/EnvolWindowDatasetFacet"


@attr.define
class EnvolDefinitionRunFacet(facets.RunFacet):
    """What a window or a model version was made with: hashes, fingerprint, Git commit."""

    run: str
    kind: str | None = None
    fingerprint: str | None = None
    code: str | None = None
    parameters: str | None = None
    contract: str | None = None
    gitCommit: str | None = None  # noqa: N815
    gitDirty: bool | None = None  # noqa: N815

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMA}#/$defs/EnvolDefinitionRunFacet"


@attr.define
class EnvolPackageRunFacet(facets.RunFacet):
    """The model version that came of a training: its package's digest, and its cutoff."""

    modelVersion: int  # noqa: N815
    digest: str
    cutoff: str

    @staticmethod
    def _get_schema() -> str:
        return f"{SCHEMA}#/$defs/EnvolPackageRunFacet"


def definition_of(made: Materialization | ModelOrigin) -> Facets:
    """What a window or a model version was made with."""
    code, by = made.code, made.by
    commit, dirty = made.commit
    facet = EnvolDefinitionRunFacet(
        run=by.run,
        kind=by.kind,
        fingerprint=made.fingerprint,
        code=None if code is None else code.code,
        parameters=None if code is None else code.parameters,
        contract=None if code is None else code.contract,
        gitCommit=commit,
        gitDirty=dirty,
    )
    return _signed(envol_definition=facet)


def package_of(model: ModelOrigin) -> Facets:
    """The model version that came of a training."""
    return _signed(envol_package=EnvolPackageRunFacet(model.version, model.digest, model.cutoff.isoformat()))


def window_of(made: Materialization) -> Facets:
    """The window that was written."""
    facet = EnvolWindowDatasetFacet(
        *(made.window, made.window, made.start.isoformat(), made.end.isoformat(), 1),
        quarantined=made.quarantined,
        snapshot=made.snapshot,
        contentVersion=made.version,
    )
    return _signed(envol_window=facet)


def windows_of(read: Lineage) -> Facets:
    """The windows that were read."""
    facet = EnvolWindowDatasetFacet(
        *(read.first, read.last, read.start.isoformat(), read.end.isoformat(), read.windows),
        quarantined=read.quarantined,
        snapshot=read.as_of,
        madeAgain=read.made_again,
    )
    return _signed(envol_window=facet)


def nominal_time(made: Materialization) -> Facets:
    """The window, as the time that a run is for."""
    kind = facets.nominal_time_run.NominalTimeRunFacet
    return _signed(nominalTime=kind(made.start.isoformat(), made.end.isoformat()))


def rows_written(rows: int) -> Facets:
    """How many rows a window has."""
    kind = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
    return _signed(outputStatistics=kind(rowCount=rows))


def rows_read(rows: int) -> Facets:
    """How many rows were read."""
    kind = facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet
    return _signed(inputStatistics=kind(rowCount=rows))


def dataset_of(kind: str, number: int | None) -> Facets:
    """What kind of dataset it is, "TABLE" or "MODEL", and which version or snapshot of it."""
    found = _signed(datasetType=facets.dataset_type_dataset.DatasetTypeDatasetFacet(kind))
    if number is not None:
        version_facet = facets.dataset_version_dataset.DatasetVersionDatasetFacet(str(number))
        found |= _signed(version=version_facet)
    return found


def schema_of(columns: Mapping[str, str]) -> Facets:
    """Columns with their dtypes."""
    kind = facets.schema_dataset
    fields = [kind.SchemaDatasetFacetFields(name, dtype) for name, dtype in columns.items()]
    return _signed(schema=kind.SchemaDatasetFacet(fields))


def job_facets(kind: str, text: str, commit: str | None, remote: str | None) -> Facets:
    """What a node is, what it says of itself, and where its code is."""
    found = _signed(jobType=facets.job_type_job.JobTypeJobFacet("BATCH", "ENVOL", jobType=kind.upper()))
    if text:
        found |= _signed(documentation=facets.documentation_job.DocumentationJobFacet(text))
    if commit is not None:
        place = facets.source_code_location_job.SourceCodeLocationJobFacet(
            "git", remote or f"urn:git:{commit}", repoUrl=remote, version=commit
        )
        found |= _signed(sourceCodeLocation=place)
    return found


def run_facets(namespace: str, by: Maker, uuid: str) -> Facets:
    """The run of Envol that a task belongs to, and the version of Envol."""
    parent = facets.parent_run
    envol = version("envol")
    return _signed(
        parent=parent.ParentRunFacet(
            run=parent.Run(uuid), job=parent.Job(namespace, f"envol {by.kind or 'run'}")
        ),
        processing_engine=facets.processing_engine_run.ProcessingEngineRunFacet(
            envol, name="envol", openlineageAdapterVersion=envol
        ),
    )


def _signed(**found: facets.BaseFacet) -> Facets:
    """The facets by name, as made by Envol."""
    for facet in found.values():
        facet._producer = PRODUCER
    return dict(found)
