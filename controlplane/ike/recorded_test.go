package ike

// recording is a handshake with a foreign client that we answered, with the
// secrets that it takes to read it: the pre-shared key and our private
// Diffie-Hellman value.
type recording struct {
	Origin   string
	PSK      string
	Private  string // hexadecimal
	Messages []recorded
	SAs      map[string][]string // what the client's kernel got: keys by SPI, hexadecimal
}

// recorded is one message, without any non-ESP marker.
type recorded struct {
	In   bool // to us
	Data string
}
