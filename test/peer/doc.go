// Package peer is one L2TP/IPsec client as a value: IKE initiator, LAC and dialling PPP in
// one, as a PC is, made of the engines of packages ike, l2tp and pppd in their calling role.
// It has no socket and no clock, so that it can be put on any network, simulated or not, and
// into any time.
//
// Or it is a dynamic IPsec subscriber, a client with XAuth and mode config, of IKE alone.
//
// Its kernel is inside: SAs are installed at once, the newest outbound SA of the connection
// serves, and what arrives through an unknown SA is dropped. ESP is not encrypted: the network
// carries an SPI and what a real client would encrypt.
package peer
