"""Independent computation of the IKEv1 key hierarchy, for vectors.json.

Nothing here shares code with the package: Python's hmac and hashlib, written
from the text of RFC 2409 section 5 and appendix B, RFC 3947 section 3.2 and
RFC 2409 section 5.5. Run: python3 vectors.py > vectors.json
"""
import hashlib, hmac, ipaddress, json, struct

HASHES = {1: "md5", 2: "sha1", 4: "sha256", 5: "sha384", 6: "sha512"}
# cipher number, key bits attribute, key bytes, block bytes
CIPHERS = [(1, 0, 8, 8), (5, 0, 24, 8), (7, 0, 16, 16), (7, 128, 16, 16), (7, 192, 24, 16), (7, 256, 32, 16)]


def filler(label, n):
    """n bytes that depend on the label only."""
    out, i = b"", 0
    while len(out) < n:
        out += hashlib.sha256(("%s/%d" % (label, i)).encode()).digest()
        i += 1
    return out[:n]


ni, nr = filler("ni", 20), filler("nr", 32)
ci, cr = filler("ci", 8), filler("cr", 8)
gxi, gxr, gxy = filler("gxi", 256), filler("gxr", 256), filler("gxy", 256)
sai, idii, idir = filler("sai", 200), filler("idii", 8), filler("idir", 24)
psk = b"a pre-shared key that is longer than one block of MD5 and SHA-1, 64 bytes"
mid, rest, gqm = 0x8A31C0DE, filler("rest", 120), filler("gqm", 128)
qni, qnr = filler("qni", 16), filler("qnr", 256)
spi = 0xC0FFEE01

doc = {
    "ni": ni, "nr": nr, "cookieI": ci, "cookieR": cr, "gxi": gxi, "gxr": gxr, "gxy": gxy,
    "sai": sai, "idii": idii, "idir": idir, "psk": psk, "mid": mid, "rest": rest, "gqm": gqm,
    "qni": qni, "qnr": qnr, "spi": spi, "cases": [],
}
for number, name in HASHES.items():
    prf = lambda key, *parts: hmac.new(key, b"".join(parts), name).digest()
    H = lambda *parts: hashlib.new(name, b"".join(parts)).digest()
    signature = prf(ni + nr, gxy)
    pubkey = prf(H(ni + nr), ci + cr)
    skeyid = prf(psk, ni + nr)
    d = prf(skeyid, gxy + ci + cr + b"\0")
    a = prf(skeyid, d + gxy + ci + cr + b"\1")
    e = prf(skeyid, a + gxy + ci + cr + b"\2")
    case = {
        "hash": number, "signature": signature, "publicKey": pubkey, "skeyid": skeyid, "d": d, "a": a, "e": e,
        "hashI": prf(skeyid, gxi + gxr + ci + cr + sai + idii),
        "hashR": prf(skeyid, gxr + gxi + cr + ci + sai + idir),
        "quick1": prf(a, struct.pack(">I", mid) + rest),
        "quick2": prf(a, struct.pack(">I", mid) + qni + rest),
        "quick3": prf(a, b"\0" + struct.pack(">I", mid) + qni + qnr),
        "natd4": H(ci + cr + ipaddress.ip_address("192.0.2.17").packed + struct.pack(">H", 4500)),
        "natd6": H(ci + cr + ipaddress.ip_address("2001:db8::17").packed + struct.pack(">H", 500)),
        "ciphers": [],
    }
    for cipher, bits, size, block in CIPHERS:
        key = e
        if len(key) < size:
            k = prf(e, b"\0")
            key = k
            while len(key) < size:
                k = prf(e, k)
                key += k
        iv = H(gxi + gxr)[:block]
        case["ciphers"].append({"cipher": cipher, "bits": bits, "key": key[:size], "iv": iv,
                                "messageIV": H(filler("last", block) + struct.pack(">I", mid))[:block]})
    for label, secret in (("keymat", b""), ("keymatPFS", gqm)):
        seed = secret + bytes([3]) + struct.pack(">I", spi) + qni + qnr
        k, out = b"", b""
        while len(out) < 96:
            k = prf(d, k + seed)
            out += k
        case[label] = out[:96]
    doc["cases"].append(case)

print(json.dumps(doc, default=lambda b: b.hex(), indent=1))
