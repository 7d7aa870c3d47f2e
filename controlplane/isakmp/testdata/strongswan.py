"""Turns what two strongSwan daemons logged and tcpdump saw into strongswan.json.

How the capture was made: strongSwan 5.9.8 (Debian 12) in two network namespaces
joined by a veth, 192.0.2.1 the initiator and 192.0.2.2 the responder, both with
"version = 1", "auth = psk", the secret below, one child in transport mode for
dynamic[17/1701], the proposals named in CASES, and "filelog { … default = 4 }",
which makes charon log every key it derives; "tcpdump -w pcap udp" beside it;
"swanctl --initiate --child l". That kernel has no ESP, so the initiator ends quick
mode after its second message with a NO-PROPOSAL-CHOSEN.

Run: python3 strongswan.py DIRECTORY > strongswan.json
where DIRECTORY has NAME/a/log (of the initiator) and NAME/pcap for each case.
The encrypted bodies are decrypted by the openssl command with the logged keys.
"""
import hashlib, json, re, struct, subprocess, sys

CASES = [  # name, IKE proposal, ESP proposal, openssl cipher, prf hash, block
    ("main", "aes256-sha1-modp2048", "aes256-sha1", "aes-256-cbc", "sha1", 16),
    ("p256", "aes128-sha256-ecp256", "aes128gcm16-ecp256", "aes-128-cbc", "sha256", 16),
    ("x25519", "aes256-sha512-curve25519", "aes256-sha512-curve25519", "aes-256-cbc", "sha512", 16),
    ("tdes", "3des-md5-modp1024", "3des-md5", "des-ede3-cbc", "md5", 8),
]
PSK = "vrgate golden vector"


def logged(lines, label):
    """Every hex dump in the log under this label, in order."""
    out = []
    for i, line in enumerate(lines):
        m = re.match(r"^\d+\[\w+\] %s => (\d+) bytes @" % re.escape(label), line)
        if not m:
            continue
        n, hexes = int(m.group(1)), ""
        for row in lines[i + 1:]:
            d = re.match(r"^\d+\[\w+\]\s+\d+: ((?:[0-9A-F]{2} ?)+)", row)
            if not d or len(hexes) >= 2 * n:
                break
            hexes += d.group(1).replace(" ", "")
        b = bytes.fromhex(hexes)[:n]
        assert len(b) == n, (label, n, len(b))
        out.append(b)
    return out


def datagrams(path):
    """UDP payloads of an Ethernet pcap, with True for those of the initiator."""
    data = open(path, "rb").read()
    assert data[:4] == b"\xd4\xc3\xb2\xa1"
    at, out = 24, []
    while at < len(data):
        n = struct.unpack("<I", data[at + 8:at + 12])[0]
        frame, at = data[at + 16:at + 16 + n], at + 16 + n
        if frame[12:14] == b"\x08\x00" and frame[23] == 17:
            ip = frame[14:]
            head = 4 * (ip[0] & 15)
            length = struct.unpack(">H", ip[head + 4:head + 6])[0]
            out.append((ip[12:16] == bytes([192, 0, 2, 1]), ip[head + 8:head + length]))
    return out


doc = []
for name, ike, esp, cipher, hashname, block in CASES:
    lines = open("%s/%s/a/log" % (sys.argv[1], name)).read().splitlines()
    one = lambda label: logged(lines, label)[0]
    # With PFS the secret of quick mode stands before protocol, SPI and the two
    # nonces of 32 bytes that strongSwan makes.
    seed = one("initiator SA seed")
    case = {"name": name, "ike": ike, "esp": esp, "psk": PSK, "gxy": one("shared Diffie Hellman secret"), "gqm": seed[:-69],
            "skeyid": one("SKEYID"), "d": one("SKEYID_d"), "a": one("SKEYID_a"), "e": one("SKEYID_e"),
            "key": one("encryption key Ka"), "iv": one("initial IV"), "hashI": one("HASH_I"), "hashR": one("HASH_R"),
            "encI": one("encryption initiator key"), "encR": one("encryption responder key"),
            "authI": (logged(lines, "integrity initiator key") + [b""])[0], "authR": (logged(lines, "integrity responder key") + [b""])[0],
            "messages": []}
    last, ivs = None, {0: case["iv"]}
    # Two of main mode are encrypted, two of quick mode, and the notify behind.
    for initiator, b in datagrams("%s/%s/pcap" % (sys.argv[1], name))[:9]:
        mid, plain = struct.unpack(">I", b[20:24])[0], b""
        if b[19] & 1:
            iv = ivs.get(mid)
            if iv is None:
                iv = hashlib.new(hashname, last + b[20:24]).digest()[:block]
            plain = subprocess.run(["openssl", "enc", "-d", "-nopad", "-" + cipher, "-K", case["key"].hex(), "-iv", iv.hex()],
                                   input=b[28:], stdout=subprocess.PIPE, check=True).stdout
            ivs[mid] = b[-block:]
            if mid == 0:
                last = b[-block:]
        case["messages"].append({"initiator": initiator, "wire": b, "plain": plain})
    doc.append(case)
print(json.dumps(doc, default=lambda b: b.hex(), indent=1))
