"""`stellwerk models`: importing object models, listing, exporting and removing them. Works beside a running server."""

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from stellwerk.access import open_store, tenant_named
from stellwerk.app.handlers.models import FileReport, ModelImport, Outcome, UnknownModel, remove_models
from stellwerk.app.ports import DecidingStore, StoreTrouble
from stellwerk.app.records import ModelHead
from stellwerk.config import Settings, load_settings
from stellwerk.core.errors import UserError
from stellwerk.logs import configure_logs
from stellwerk.lwm2m.schema.ddf import encode_ddf
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.schema.model import parse_version
from stellwerk.model_files import ModelFile, NotReadable, find_model_files
from stellwerk.net.clock import SystemClock

T = TypeVar("T")

models = typer.Typer(no_args_is_help=True, help="Object models: what the objects of devices are made of.")

_Config = Annotated[Path | None, typer.Option(help="TOML file with settings; the environment counts more.")]
_Tenant = Annotated[str, typer.Option(help="Only for devices of this tenant; without it, for all.")]


@models.command("import")
def models_import(
    paths: Annotated[list[Path], typer.Argument(help="DDF files (XML), folders, zip archives.", metavar="PATH...")],
    tenant: _Tenant = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would happen and change nothing.")] = False,
    config: _Config = None,
) -> None:
    """Import object models. Says for each file what came of it; exit status 1 when any was refused."""
    settings = _settings(config)
    files, others = find_model_files(paths)
    reports = _settled(_import(settings, files, tenant, dry_run))
    refused = _report(files, reports)
    counted = Counter(model.outcome for report in reports for model in report.models)
    skipped = len([each for each in reports if each.reason]) - refused
    typer.echo(
        ", ".join(f"{counted[each]} {each.value}" for each in Outcome)
        + f" (models); {refused} refused, {skipped} skipped, {others} others passed over (files)"
        + ("; a dry run, nothing was changed" if dry_run else "")
    )
    if refused:
        raise typer.Exit(1)


@models.command("list")
def models_list(
    object_id: Annotated[int | None, typer.Option("--object", help="Only this object.", min=0, max=65534)] = None,
    tenant: Annotated[str, typer.Option(help="As devices of this tenant have them.")] = "",
    config: _Config = None,
) -> None:
    """List the models: object, version, where it is from, name, file."""
    settings = _settings(config)

    async def work(store: DecidingStore) -> list[str]:
        await _check_tenant(settings, store, tenant)
        found = {(each.id, each.version): (each.name, "built in", "") for each in Library.builtin().models()}
        # Those for all come first: a tenant's own count more.
        for head in await store.object_models():
            if head.tenant in ("", tenant):
                where = f"tenant {head.tenant}" if head.tenant else "imported"
                found[head.object_id, head.version] = (head.name, where, head.file_name)
        return [
            f"{key[0]}\t{key[1]}\t{where}\t{name}\t{file_name}".rstrip("\t")
            for key, (name, where, file_name) in sorted(found.items(), key=lambda each: _order(*each[0]))
            if object_id in (None, key[0])
        ]

    for line in _with_store(settings, work):
        typer.echo(line)


@models.command("export")
def models_export(
    object_id: Annotated[int, typer.Argument(help="The object.", min=0, max=65534, metavar="OBJECT")],
    version: Annotated[str, typer.Argument(help="Its version; without it, the newest.", metavar="[VERSION]")] = "",
    tenant: Annotated[str, typer.Option(help="As devices of this tenant have it.")] = "",
    config: _Config = None,
) -> None:
    """Write the XML of a model to standard output: the file as it was imported, or the facts of a built-in one."""
    settings = _settings(config)

    async def work(store: DecidingStore) -> bytes:
        await _check_tenant(settings, store, tenant)
        heads = [each for each in await store.object_models() if each.object_id == object_id]
        heads = [each for each in heads if each.tenant in ("", tenant)]
        builtin = [each for each in Library.builtin().models() if each.id == object_id]
        known = {each.version for each in heads} | {each.version for each in builtin}
        wanted = version or max(known, key=lambda each: _order(object_id, each), default="")
        head = next((each for each in reversed(heads) if each.version == wanted), None)
        if head is not None:
            return await store.model_source(*head.key) or b""
        for each in builtin:
            if each.version == wanted:
                return encode_ddf(each)
        raise UserError(f"there is no model of object {object_id}" + (f" version {version}" if version else ""))

    sys.stdout.buffer.write(_with_store(settings, work))
    sys.stdout.buffer.flush()


@models.command("remove")
def models_remove(
    object_id: Annotated[int, typer.Argument(help="The object.", min=0, max=65534, metavar="OBJECT")],
    version: Annotated[str, typer.Argument(help="Its version; without it, all.", metavar="[VERSION]")] = "",
    tenant: Annotated[str, typer.Option(help="Of this tenant; without it, of those imported for all.")] = "",
    config: _Config = None,
) -> None:
    """Forget imported models; where one is built in, it counts again."""
    settings = _settings(config)

    async def work(store: DecidingStore) -> Sequence[ModelHead]:
        await _check_tenant(settings, store, tenant)
        return await remove_models(store, tenant, object_id, version)

    try:
        removed = _with_store(settings, work)
    except UnknownModel as error:
        if Library.builtin().choose(object_id, None, "1.2").model is not None:
            raise UserError(f"{error}; what is built in stays") from None
        raise
    for each in removed:
        typer.echo(f"removed\tobject {each.object_id} {each.version} {each.name}")


async def _import(settings: Settings, files: Sequence[ModelFile], tenant: str, dry_run: bool) -> list[FileReport]:
    reports = []
    bar = Progress(
        TextColumn("importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    async with open_store(settings) as store:
        await _check_tenant(settings, store, tenant)
        importing = ModelImport(store, SystemClock(), tenant, dry_run)
        with bar:
            for file in bar.track(files):
                try:
                    reports.append(await importing.add(file.name, file.read()))
                except NotReadable as error:
                    reports.append(FileReport(file.name, reason=str(error)))
            await importing.finish()
    return reports


def _report(files: Sequence[ModelFile], reports: Sequence[FileReport]) -> int:
    """A line for each model and for each file without one; returns how many files were refused."""
    refused = 0
    for file, report in zip(files, reports, strict=True):
        for model in report.models:
            typer.echo(f"{model.outcome.value}\t{file.name}: object {model.object_id} {model.version} {model.name}")
        if report.reason:
            # Whoever names a file wants something of it; in a folder an index may lie about.
            skipped = report.skipped and not file.named
            refused += not skipped
            typer.echo(f"{'skipped' if skipped else 'refused'}\t{file.name}: {report.reason}")
    return refused


def _with_store(settings: Settings, work: Callable[[DecidingStore], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_store(settings) as store:
            return await work(store)

    return _settled(run())


def _settled(work: Coroutine[Any, Any, T]) -> T:
    """Run it; a store that cannot write is no fault of the program."""
    try:
        return asyncio.run(work)
    except StoreTrouble as error:
        raise UserError(f"{error}; an import may be repeated, what is there already stays unchanged") from None


async def _check_tenant(settings: Settings, store: DecidingStore, tenant: str) -> None:
    if tenant:
        await tenant_named(settings, store, tenant)


def _order(object_id: int, version: str) -> tuple[int, tuple[int, int]]:
    return object_id, parse_version(version) or (0, 0)


def _settings(config: Path | None) -> Settings:
    settings = load_settings(config)
    configure_logs(settings.log_level, settings.log_format)
    return settings
