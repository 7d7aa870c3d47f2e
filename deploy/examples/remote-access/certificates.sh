#!/bin/sh
# Makes, with openssl and below pki/ of the current directory, what main.yaml names: an
# authority, the certificate of the gateway, and a revocation list. With names as arguments it
# also makes a certificate for each client, as NAME.p12 with the password "change me".
# What is there stays as it is; keep ca.key somewhere else.
set -eu
umask 077
mkdir -p pki
cd pki
days=825
[ -e openssl.cnf ] || cat >openssl.cnf <<'END'
[ca]
default_ca = local
[local]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 30
END
[ -e index.txt ] || : >index.txt
[ -e crlnumber ] || echo 01 >crlnumber

if [ ! -e ca.pem ]; then
	openssl req -x509 -newkey rsa:3072 -nodes -days 3650 -subj "/O=Example/CN=Example VPN authority" \
		-addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem 2>/dev/null
fi

# certificate NAME EXTENSION... makes NAME.key and NAME.pem.
certificate() {
	name=$1
	shift
	[ ! -e "$name.pem" ] || return 0
	printf '%s\n' basicConstraints=CA:FALSE keyUsage=digitalSignature "$@" >"$name.ext"
	openssl req -newkey rsa:2048 -nodes -subj "/O=Example/CN=$name" -keyout "$name.key" -out "$name.csr" 2>/dev/null
	openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" -extfile "$name.ext" -out "$name.pem" 2>/dev/null
	rm "$name.csr" "$name.ext"
}

# Apple's clients want the address that they dial among the names.
certificate gateway subjectAltName=DNS:vpn.example.net,IP:192.0.2.3 extendedKeyUsage=serverAuth
for client; do
	certificate "$client" "subjectAltName=email:$client@example.net" extendedKeyUsage=clientAuth
	[ -e "$client.p12" ] || openssl pkcs12 -export -in "$client.pem" -inkey "$client.key" -certfile ca.pem -passout "pass:change me" -out "$client.p12"
done

# To revoke: openssl ca -config openssl.cnf -cert ca.pem -keyfile ca.key -revoke NAME.pem, and this again.
openssl ca -config openssl.cnf -cert ca.pem -keyfile ca.key -gencrl -out ca.crl 2>/dev/null
