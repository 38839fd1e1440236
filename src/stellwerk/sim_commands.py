"""`stellwerk sim`: what the command line says about simulated devices."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from stellwerk.logs import configure_logs
from stellwerk.lwm2m.formats import ContentFormat
from stellwerk.signals import run_until_signal
from stellwerk.sim.bootstrap.faults import StepFaultKind
from stellwerk.sim.bootstrap.fleet import Commissioning
from stellwerk.sim.bootstrap.options import BootstrapOptions, Mode
from stellwerk.sim.bootstrap.written import parse_commissioning
from stellwerk.sim.faults import Fault, FaultKind, InvalidFault
from stellwerk.sim.fleet import Behaviour, FleetOptions, run_fleet
from stellwerk.sim.gateway import VERSIONS as GATEWAY_VERSIONS
from stellwerk.sim.impairment import Conditions
from stellwerk.sim.key_files import Sources, context_keyring, read_certificates, read_public_key
from stellwerk.sim.options import Composites, DeviceOptions
from stellwerk.sim.release import RELEASES
from stellwerk.sim.security import LONGEST_CID, AfterHandshake, Resume, Security, parse_suites
from stellwerk.sim.written import (
    parse_binding,
    parse_formats,
    parse_profile,
    parse_rights,
    parse_root,
    parse_send_format,
    require,
)

_say = Console(stderr=True, highlight=False)

_BOOTSTRAP: Final = "Bootstrapping (with --bootstrap)"


def sim(
    server: Annotated[
        str,
        typer.Option(
            help="Where to register: coap://HOST:PORT (UDP), coaps:// (DTLS), coap+tcp:// (TCP) or coaps+tcp:// (TLS), "
            "all with --bootstrap and --oscore too. "
            "[default: coap://127.0.0.1:5683, with --bootstrap port 5687]",
            show_default=False,
        ),
    ] = "",
    count: Annotated[int, typer.Option(help="How many devices.", min=1, max=100_000)] = 1,
    prefix: Annotated[str, typer.Option(help="Endpoint names are PREFIX1, PREFIX2, ...")] = "sim-",
    second_server: Annotated[
        list[str] | None,
        typer.Option(help="Where to register too, without security or bootstrap: coap://HOST:PORT; may be repeated."),
    ] = None,
    lwm2m_version: Annotated[
        str, typer.Option("--lwm2m", "--lwm2m-version", help="Release of LwM2M: 1.0, 1.1 or 1.2.")
    ] = "1.1",
    formats: Annotated[
        str, typer.Option(help="The content formats it has, like 110,112; all where none is said.")
    ] = "",
    composites: Annotated[
        Composites, typer.Option(help="What becomes of operations on several paths at once.")
    ] = Composites.ON,
    binding: Annotated[str, typer.Option(help="What is registered as binding, like U or UT.")] = "U",
    root: Annotated[str, typer.Option(help="The alternate path before all objects, like /lwm2m.")] = "",
    pid: Annotated[
        str, typer.Option(help="A profile instead of the object list, like 6:27354b9a or 6:27354b9a=/1/0,/3/0.")
    ] = "",
    objects: Annotated[
        list[int] | None,
        typer.Option("--object", help="The objects that it has besides 1 and 3; may be repeated. Else the usual ones."),
    ] = None,
    ets: Annotated[bool, typer.Option("--ets", help="The values of OMA's test specification, standing still.")] = False,
    acl: Annotated[
        list[str] | None, typer.Option(help="What the server may do somewhere, like /3/0:1; may be repeated.")
    ] = None,
    gateway: Annotated[int, typer.Option(help="How many end devices are behind each.", min=0, max=1000)] = 0,
    gateway_version: Annotated[str, typer.Option(help="Version of object 25: 1.0 or 2.0.")] = "2.0",
    gateway_leave_every: Annotated[
        float, typer.Option(help="Seconds after which an end device goes and another comes; 0: they stay.", min=0)
    ] = 0,
    behaviour: Annotated[
        list[Behaviour] | None,
        typer.Option(help="What the first device is, the second and so on; the last one counts for the rest."),
    ] = None,
    lifetime: Annotated[
        int | None,
        typer.Option(help="Seconds of a registration; 300, with --ets 86400.", min=1, max=2**31 - 1),
    ] = None,
    update_every: Annotated[
        float, typer.Option(help="Seconds between Updates; 0: 80 % of the lifetime, 60 for sleepers.", min=0)
    ] = 0,
    sample_every: Annotated[float, typer.Option(help="Seconds between looks at observed values.", min=0.1)] = 10,
    send_every: Annotated[float, typer.Option(help="Seconds between Sends of a device; 0: none.", min=0)] = 0,
    send_format: Annotated[
        int | None, typer.Option(help="Content format of a Send: 110, 112, or in 1.2 11544.", show_default="112")
    ] = None,
    mute: Annotated[bool, typer.Option("--mute", help="No Send until the server unmutes it.")] = False,
    queue_mode: Annotated[bool, typer.Option("--queue-mode", help="All devices sleep between their messages.")] = False,
    awake: Annotated[float, typer.Option(help="Seconds that a sleeper listens after its last message.", min=0.1)] = 10,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="What goes wrong, as silence:20%, late:5s, refuse:4.04@/3/0/9, reboot:60s; may be repeated. "
            f"Kinds: {', '.join(each.value for each in FaultKind)}."
        ),
    ] = None,
    move_every: Annotated[
        float,
        typer.Option(help="Seconds after which a device speaks from another port, as behind a NAT; 0: never.", min=0),
    ] = 0,
    psk: Annotated[
        str, typer.Option(help="Secure: pre-shared key, IDENTITY:HEXKEY; {endpoint} or {n} in it for several devices.")
    ] = "",
    psk_file: Annotated[
        Path | None, typer.Option(help="Secure: lines of ENDPOINT IDENTITY HEXKEY, one for each device.")
    ] = None,
    rpk: Annotated[
        Path | None,
        typer.Option(help="Secure (DTLS): raw public key; file with the private key, or folder of ENDPOINT.key."),
    ] = None,
    cert: Annotated[
        Path | None, typer.Option(help="Secure: certificate, or folder of ENDPOINT.crt and ENDPOINT.key.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The private key that goes with --cert.")] = None,
    issuer: Annotated[
        Path | None, typer.Option(help="Secure: authority that issues a certificate to each device, with --issuer-key.")
    ] = None,
    issuer_key: Annotated[Path | None, typer.Option(help="The private key that goes with --issuer.")] = None,
    oscore: Annotated[
        str,
        typer.Option(
            help="OSCORE, over whatever the server is reached by: SENDER:RECIPIENT:SECRET[:SALT] in hex, from the "
            "device's view; {endpoint} or {n} in both IDs for several devices."
        ),
    ] = "",
    oscore_file: Annotated[
        Path | None,
        typer.Option(help="OSCORE: lines of ENDPOINT SENDER RECIPIENT SECRET [SALT [IDCONTEXT]], one for each device."),
    ] = None,
    server_key: Annotated[
        Path | None, typer.Option(help="The server's public key; another one is refused. Else any is taken.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="Certificates that the server's must lead to. Else any is taken.")
    ] = None,
    suites: Annotated[
        list[str] | None,
        typer.Option("--suite", help="DTLS: cipher suite, like PSK_WITH_AES_128_CCM_8; may be repeated."),
    ] = None,
    cid: Annotated[
        bool, typer.Option("--cid", help="DTLS: use a connection ID of the server's, and want none.")
    ] = False,
    cid_length: Annotated[
        int | None, typer.Option(help="DTLS: want a connection ID of so many bytes, too.", min=0, max=LONGEST_CID)
    ] = None,
    resume: Annotated[
        Resume | None,
        typer.Option(
            help="DTLS: go on from the earlier session after sleep, reboot or loss, by id or ticket; not with "
            "--bootstrap or --oscore."
        ),
    ] = None,
    after_handshake: Annotated[
        AfterHandshake,
        typer.Option(
            help="DTLS: what a registered device does after a full handshake; not with --bootstrap or --oscore."
        ),
    ] = AfterHandshake.REGISTER,
    handshake_timeout: Annotated[
        float, typer.Option(help="Seconds after which a handshake has failed.", min=0.1, max=3600)
    ] = 90,
    bootstrap: Annotated[
        bool, typer.Option("--bootstrap", help="The server is a bootstrap server, and names those to register with.")
    ] = False,
    bootstrap_mode: Annotated[
        Mode, typer.Option(help="Who begins a bootstrap, and with what.", rich_help_panel=_BOOTSTRAP)
    ] = Mode.CLIENT,
    bootstrap_instance: Annotated[
        int,
        typer.Option(
            help="Instance of object 0 for the bootstrap server.", min=0, max=65534, rich_help_panel=_BOOTSTRAP
        ),
    ] = 0,
    hold_off: Annotated[
        int, typer.Option(help="Seconds before it asks.", min=0, max=86_400, rich_help_panel=_BOOTSTRAP)
    ] = 0,
    account_timeout: Annotated[
        int,
        typer.Option(
            help="Seconds after which it forgets the bootstrap server; 0: never.", min=0, rich_help_panel=_BOOTSTRAP
        ),
    ] = 0,
    renew_every: Annotated[
        float,
        typer.Option(
            help="Seconds after which a device that enrolled asks for another certificate; 0: only before it ends.",
            min=0,
            rich_help_panel=_BOOTSTRAP,
        ),
    ] = 0,
    pct: Annotated[
        str, typer.Option(help="Preferred content format: a number, or none.", rich_help_panel=_BOOTSTRAP)
    ] = "",
    pack_format: Annotated[
        int, typer.Option(help="Content format of a pack: 110, 112 or 11544.", rich_help_panel=_BOOTSTRAP)
    ] = 112,
    factory_server: Annotated[
        str, typer.Option(help="Register here first: coap://HOST:PORT.", rich_help_panel=_BOOTSTRAP)
    ] = "",
    bootstrap_fault: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What goes wrong, as silence@finish, refuse:4.00:once@write, again@2; may be repeated. "
            f"Kinds: {', '.join(each.value for each in StepFaultKind)}.",
            rich_help_panel=_BOOTSTRAP,
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder where devices keep what they were given; and with --oscore, which numbers they used.",
            rich_help_panel=_BOOTSTRAP,
        ),
    ] = None,
    loss: Annotated[str, typer.Option(help="UDP and DTLS: share of datagrams lost each way, like 5%.")] = "0%",
    duplicates: Annotated[
        str, typer.Option(help="UDP and DTLS: share of datagrams that come twice, each way, like 5%.")
    ] = "0%",
    seed: Annotated[int, typer.Option(help="The same seed gives the same values, faults and losses.")] = 1,
) -> None:
    """Simulated LwM2M clients against any server. End with Ctrl-C: they de-register."""
    configure_logs("info", "console")
    if lwm2m_version not in RELEASES:
        raise typer.BadParameter(
            f"LwM2M {lwm2m_version!r} is not simulated; one of {', '.join(RELEASES)}", param_hint="--lwm2m"
        )
    if gateway_version not in GATEWAY_VERSIONS:
        raise typer.BadParameter(
            f"object 25 has no version {gateway_version!r}; one of {', '.join(GATEWAY_VERSIONS)}",
            param_hint="--gateway-version",
        )
    faults = [_fault(each) for each in fault or ()]
    if move_every:
        faults.append(Fault(FaultKind.MOVE, seconds=move_every))
    keyring = Sources(psk, psk_file, rpk, cert, issuer, key, issuer_key).keyring(count)
    security = None
    if keyring is not None:
        security = Security(
            keyring,
            server_key=read_public_key(server_key, "--server-key") if server_key is not None else b"",
            anchors=read_certificates(ca, "--ca") if ca is not None else (),
            suites=parse_suites(suites or []),
            cid_length=cid_length if cid_length is not None else 0 if cid else None,
            resume=resume,
            after_handshake=after_handshake,
            handshake_s=handshake_timeout,
        )
    else:
        require(
            {
                "--server-key": server_key,
                "--ca": ca,
                "--suite": suites,
                "--cid": cid,
                "--cid-length": cid_length is not None,
                "--resume": resume,
                "--after-handshake": after_handshake is not AfterHandshake.REGISTER,
            },
            "credentials (--psk, --rpk or --cert)",
        )
    contexts = context_keyring(oscore, oscore_file, count=count)
    if (bootstrap or contexts is not None) and (resume is not None or after_handshake is not AfterHandshake.REGISTER):
        raise typer.BadParameter(
            "devices that bootstrap or have OSCORE resume no session, and register in each new one",
            param_hint="--resume" if resume is not None else "--after-handshake",
        )
    release = RELEASES[lwm2m_version]
    profile, covered = parse_profile(pid)
    commissioning = None
    if bootstrap:
        commissioning = parse_commissioning(
            release=release,
            mode=bootstrap_mode,
            instance=bootstrap_instance,
            hold_off_s=hold_off,
            account_timeout_s=account_timeout,
            renew_every_s=renew_every,
            pct=pct,
            pack_format=pack_format,
            factory_server=factory_server,
            faults=bootstrap_fault or (),
            state=state,
        )
    else:
        require(
            {
                "--bootstrap-mode": bootstrap_mode is not Mode.CLIENT,
                "--bootstrap-instance": bootstrap_instance,
                "--hold-off": hold_off,
                "--account-timeout": account_timeout,
                "--renew-every": renew_every,
                "--pct": pct,
                "--pack-format": pack_format != ContentFormat.SENML_CBOR,
                "--factory-server": factory_server,
                "--bootstrap-fault": bootstrap_fault,
            },
            "--bootstrap",
        )
        if contexts is not None:
            commissioning = Commissioning(BootstrapOptions("", is_bootstrap=False), state)
        else:
            require({"--state": state}, "--bootstrap or --oscore")
    template = DeviceOptions(
        "",
        other_server_uris=tuple(second_server or ()),
        formats=parse_formats(formats, release),
        composites=composites,
        binding=parse_binding(binding, release),
        root=parse_root(root),
        profile_id=profile,
        profile_covers=covered,
        object_ids=frozenset(objects) if objects else None,
        ets=ets,
        access_rights=parse_rights(acl or ()),
        end_devices=gateway,
        gateway_version=gateway_version,
        end_devices_leave_every_s=gateway_leave_every or None,
        send_format=ContentFormat.SENML_CBOR if send_format is None else parse_send_format(send_format, release),
        muted=mute,
    )
    options = FleetOptions(
        template=template,
        server=server or f"coap://127.0.0.1:{5687 if bootstrap else 5683}",
        count=count,
        prefix=prefix,
        lwm2m_version=lwm2m_version,
        lifetime_s=lifetime or (86_400 if ets else 300),
        update_every_s=update_every or None,
        sample_every_s=sample_every,
        send_every_s=send_every or None,
        queue_mode=queue_mode,
        awake_s=awake,
        behaviours=tuple(behaviour or (Behaviour.MOVING,)),
        faults=tuple(faults),
        security=security,
        bootstrap=commissioning,
        oscore=contexts,
        conditions=Conditions(loss=_share("--loss", loss), duplication=_share("--duplicates", duplicates)),
        seed=seed,
    )

    async def work(stop: asyncio.Event) -> None:
        await run_fleet(options, stop, on_summary=lambda summary: _say.print(str(summary), soft_wrap=True))

    run_until_signal(work)


def _fault(text: str) -> Fault:
    """Raises `typer.BadParameter`."""
    try:
        return Fault.parse(text)
    except InvalidFault as error:
        raise typer.BadParameter(str(error), param_hint="--fault") from None


def _share(option: str, text: str) -> float:
    """``5%`` or ``0.05`` as a share. Raises `typer.BadParameter`."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{text!r} is no share; write it like 5% or 0.05", param_hint=option)
    return share
