package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/towpath-dataplane/towpath/sdk"
)

// TLSFromFiles returns what to trust and to show to servers, from PEM files: authorities besides those of the system, and a certificate with
// its key. Each may be "". The error is an *sdk.Error about the field ca_file, client_certificate or client_key of a plugin's configuration.
func TLSFromFiles(caFile, clientCertificate, clientKey string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		roots, err := trusted(caFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = roots
	}
	if (clientCertificate == "") != (clientKey == "") {
		return nil, invalidField("client_certificate", "needs client_key, and the other way round")
	}
	if clientCertificate != "" {
		pair, err := tls.LoadX509KeyPair(clientCertificate, clientKey)
		if err != nil {
			return nil, invalidField("client_certificate", err.Error())
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func trusted(file string) (*x509.CertPool, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a machine without certificates of its own
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, invalidField("ca_file", err.Error())
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, invalidField("ca_file", "has no PEM certificate")
	}
	return roots, nil
}

func invalidField(field, message string) error {
	return sdk.InvalidFields([]sdk.FieldError{{Field: field, Message: message}})
}
