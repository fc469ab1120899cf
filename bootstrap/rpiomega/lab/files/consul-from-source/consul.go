// Package consul only makes Consul's own program a requirement of this module, so that it can be built from it.
package consul
