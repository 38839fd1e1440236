import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from stellwerk.coap import codes
from stellwerk.coap.actions import *
from stellwerk.device.key_material import *
from stellwerk.issuing import *
from stellwerk.sim.security import *
from stellwerk.sim.bootstrap.options import *
from .bootstrap_bench import *

KEY=bytes(range(16))
def test_psk():
    b=BootstrapBench([DELETE,*account(uri="coaps://10.0.0.3:5683", mode=0, r3=b"dm-id", r4=b"", r5=KEY),FINISH], keys={b"bs":KEY}, server_keys={b"dm-id":KEY}, credentials=PreSharedKey(b"bs",KEY))
    d=b.start()
    print(b.bootstrap.codes, b.happenings, b.bootstrap.failed)
    assert b.is_configured
    assert b.bootstrap.identities==[b"bs"] and b.server.identities==[b"dm-id"]
    b.network.run_for(100)
    assert [e.reason for e in b.bootstrap.ended]==["close-notify"]
    m=d.memory(); print(m)
    b.restart(d)
    b.network.run_for(5)
    print(b.happenings[-6:])
    assert len(b.bootstrap.asked("bs"))==1
    assert len(b.server.asked("rd"))==2
def test_rpk():
    k=new_key()
    b=BootstrapBench([DISCOVER,DELETE,*account(uri="coaps://10.0.0.3:5683", mode=1, r3=spki_of(k.public_key()), r4=spki_of(SERVER_KEY.public_key()), r5=pkcs8_of(k)),FINISH], keys={}, server_keys={}, credentials=RawKey(new_key()))
    d=b.start()
    print(b.bootstrap.codes, b.happenings, b.bootstrap.failed)
    assert b.is_configured
def test_x509():
    ca=make_authority("ca"); issuer=Issuer(ca.key,ca.chain[0])
    s=issuer.server(SERVER_KEY,["server"]) if 0 else None
    c=issuer.client(new_key(),"dev-1")
    import inspect
    print(inspect.signature(issuer.server))
    srv=issuer.server(SERVER_KEY,"server.example.com",["server.example.com"])
    bsc=issuer.client(new_key(),"dev-1")
    chain=tuple(der_of(x) for x in srv.chain)
    b=BootstrapBench([DISCOVER,DELETE,*account(uri="coaps://10.0.0.3:5683", mode=2, r3=der_of(c.chain[0]), r4=chain[0], r5=pkcs8_of(c.key)),FINISH], keys={}, server_keys={}, chain=chain, credentials=Certificate(bsc.key, tuple(der_of(x) for x in bsc.chain)), anchors=ca.chain)
    b.server=Peer(b.network, SERVER, {}, chain=chain)
    d=b.start()
    print(b.bootstrap.codes, b.happenings, b.bootstrap.failed)
    assert b.is_configured
def test_trigger():
    b=BootstrapBench()
    d=b.start()
    h=SendRequest(99, PeerId("udp",*DEVICE,*SERVER), codes.POST, b"t", ("1","1","9"))
    b.server.station.submit(h)
    b.network.run_for(3)
    print(b.happenings)
    assert len(b.of(Bootstrapped))==2
    assert len(b.server.asked("rd"))==2
def test_pack():
    b=BootstrapBench((), mode=Mode.PACK)
    values={**security(1,"coap://10.0.0.3:5683",123), **server(1,123), **{"/0/0/0":"coap://10.0.0.1:5687","/0/0/1":True,"/0/0/2":3}}
    pack=encode_content(112, Content(tuple(Entry(Path.parse(k),v) for k,v in values.items())), Path(), device_types())
    b.bootstrap.decide=lambda r: Respond(r.exchange, codes.CONTENT, content_format=112, payload=pack) if r.path==("bspack",) else None
    d=b.start()
    print(b.happenings, b.bootstrap.requests)
    assert b.is_configured
def test_fallback():
    b=BootstrapBench(factory_uri="coap://10.0.0.4:5683")
    d=b.start()
    assert not b.of(Bootstrapped)
    b.network.run_for(1200)
    print(b.happenings)
    assert b.is_configured
def test_server_initiated():
    b=BootstrapBench(mode=Mode.SERVER)
    d=b.start(lwm2m_version="1.0")
    b.network.run_for(1000)
    b.bootstrap.send(PeerId("udp",*DEVICE,*BOOTSTRAP), [*account(release="1.0"), FINISH])
    b.network.run_for(2)
    print(b.happenings, b.bootstrap.codes)
    assert b.is_configured
@pytest.mark.parametrize("fault,reason",[("silence@write","overtime"),("reset@delete","overtime"),("refuse:4.06@finish","overtime")])
def test_fault(fault,reason):
    b=BootstrapBench(faults=[fault])
    d=b.start()
    b.network.run_for(250)
    print(b.happenings, b.bootstrap.codes)
    assert b.failures==[reason]
def test_many():
    from stellwerk.sim.bootstrap.device import BootstrapDevice
    b=BootstrapBench(network=dict(loss=0.1,seed=3))
    import time; t=time.time()
    for i in range(100):
        local=("10.1.0.1",1000+i)
        b.network._stations[local]=b.devices
        b.devices.submit(Start(b.device(f"d{i}", local)))
    b.network.run_for(300)
    print(time.time()-t, len(b.of(Bootstrapped)), b.failures)
    assert len(b.of(Bootstrapped))>=100
