package pki

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// fileError names the file, without which nobody finds the mistake.
func fileError(file, format string, args ...any) error {
	return fmt.Errorf("%s: %w", file, fmt.Errorf(format, args...))
}

// readFile reads a regular file of at most limit bytes.
func readFile(file string, limit int64) ([]byte, fs.FileMode, error) {
	// Stat first: opening a FIFO would wait for a writer.
	info, err := os.Stat(file)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		return nil, 0, fileError(file, "cannot be read: %w", withoutPath(err))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, fileError(file, "cannot be read: %w", withoutPath(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, 0, fileError(file, "cannot be read: %w", withoutPath(err))
	}
	if int64(len(data)) > limit {
		return nil, 0, fileError(file, "is larger than %d bytes", limit)
	}
	return data, info.Mode(), nil
}

// withoutPath is err without the path that the message names already.
func withoutPath(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// readCerts reads the certificates of a file: PEM, or a single one in DER as Windows exports
// it. There is at least one.
func readCerts(file string) ([]*x509.Certificate, error) {
	data, _, err := readFile(file, MaxFileSize)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for n, rest := 1, data; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" && block.Type != "X509 CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fileError(file, "PEM block %d is not a certificate: %w", n, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		cert, err := x509.ParseCertificate(data)
		if err != nil {
			return nil, fileError(file, "holds no certificate in PEM")
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// loadOwn reads a certificate of ours with its key, and sees to it that they belong together.
func loadOwn(o Own) (own, error) {
	out := own{name: o.Name}
	var certs []*x509.Certificate
	var key any
	var certFile string
	var mode fs.FileMode
	switch {
	case o.PKCS12 != "" && (o.Certificate != "" || o.Key != ""):
		return own{}, errors.New("a PKCS #12 file and PEM files exclude each other")
	case o.PKCS12 != "":
		out.keyFile, certFile = o.PKCS12, o.PKCS12
		data, m, err := readFile(o.PKCS12, MaxFileSize)
		if err != nil {
			return own{}, err
		}
		k, leaf, chain, err := pkcs12.DecodeChain(data, string(o.Password))
		switch {
		case errors.Is(err, pkcs12.ErrIncorrectPassword):
			return own{}, fileError(o.PKCS12, "the password is wrong")
		case err != nil:
			return own{}, fileError(o.PKCS12, "is not a usable PKCS #12 file: %w", err)
		}
		key, certs, mode = k, append([]*x509.Certificate{leaf}, chain...), m
	case o.Certificate == "" || o.Key == "":
		return own{}, errors.New("a certificate and a key file, or a PKCS #12 file, is needed")
	default:
		out.keyFile, certFile = o.Key, o.Certificate
		var errCerts, errKey error
		certs, errCerts = readCerts(o.Certificate)
		key, mode, errKey = readKey(o.Key)
		if err := errors.Join(errCerts, errKey); err != nil {
			return own{}, err
		}
	}
	if mode.Perm()&0o022 != 0 {
		return own{}, fileError(out.keyFile, "others than its owner can write to the private key (mode %#o)", mode.Perm())
	}
	out.exposed = mode.Perm()&0o004 != 0

	var err error
	if out.key, err = usableKey(key); err != nil {
		return own{}, fileError(out.keyFile, "%w", err)
	}
	if pub, ok := certs[0].PublicKey.(*rsa.PublicKey); !ok || !pub.Equal(out.key.Public()) {
		return own{}, fileError(certFile, "the first certificate, of %s, does not belong to the private key in %s", words(certs[0].RawSubject), out.keyFile)
	}
	out.chain = chainOf(certs)
	return out, nil
}

// readKey reads the private key of a PEM file.
func readKey(file string) (any, fs.FileMode, error) {
	data, mode, err := readFile(file, MaxFileSize)
	if err != nil {
		return nil, 0, err
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, 0, fileError(file, "holds no private key in PEM")
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue // certificates, or the parameters that openssl writes before a key
		}
		var key any
		switch _, encrypted := block.Headers["DEK-Info"]; {
		case encrypted, block.Type == "ENCRYPTED PRIVATE KEY":
			return nil, 0, fileError(file, "the private key is encrypted; decrypt it, or use a PKCS #12 file, which can have a password")
		case block.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		}
		if err != nil {
			return nil, 0, fileError(file, "the private key cannot be used: %w", err)
		}
		return key, mode, nil
	}
}

// usableKey is the key if it is one that IKEv1 can sign with here.
func usableKey(key any) (*rsa.PrivateKey, error) {
	k, ok := key.(*rsa.PrivateKey)
	if !ok {
		kind := strings.TrimPrefix(fmt.Sprintf("%T", key), "*")
		kind, _, _ = strings.Cut(kind, ".")
		return nil, fmt.Errorf("the private key is of type %s but must be RSA: the method of IKEv1 is RSA signatures", kind)
	}
	if bits := k.N.BitLen(); bits < MinKeyBits || bits > MaxKeyBits {
		return nil, fmt.Errorf("the private key has %d bits but may have %d to %d", bits, MinKeyBits, MaxKeyBits)
	}
	// A key that cannot sign is found here and not by the first client.
	digest := make([]byte, crypto.SHA1.Size())
	sig, err := rsa.SignPKCS1v15(nil, k, 0, digest)
	if err == nil {
		err = rsa.VerifyPKCS1v15(&k.PublicKey, 0, digest, sig)
	}
	if err != nil {
		return nil, fmt.Errorf("the private key cannot sign: %w", err)
	}
	return k, nil
}

// chainOf orders the certificates that came with the first one: each is followed by its issuer.
// Roots and what does not belong are left out: a peer trusts its own copy of a root or none.
func chainOf(certs []*x509.Certificate) []*x509.Certificate {
	chain := certs[:1:1]
	for len(chain) < MaxCerts {
		last := chain[len(chain)-1]
		var next *x509.Certificate
		for _, c := range certs[1:] {
			if bytes.Equal(c.RawSubject, last.RawIssuer) && !bytes.Equal(c.RawSubject, c.RawIssuer) && last.CheckSignatureFrom(c) == nil {
				next = c
				break
			}
		}
		if next == nil {
			break
		}
		chain = append(chain, next)
	}
	return chain
}
