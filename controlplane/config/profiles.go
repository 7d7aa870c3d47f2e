package config

// What a proposal profile accepts is the IKE engine's knowledge; this package
// only knows which single algorithms deserve a warning when they are named.

// weakness says why an algorithm is weak, empty if it is not. What the
// compatible profile accepts is old but not weak in this sense.
func weakness(word string) string {
	switch word {
	case "des", "3des":
		return "has a 64 bit block"
	case "md5":
		return "is broken as a hash"
	case "modp768", "modp1024":
		return "can be computed in practice by well equipped attackers"
	case "pap":
		return "shows the password to whoever reads the session; it is safe inside IPsec only"
	}
	return ""
}
