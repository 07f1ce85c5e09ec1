// Command traefik stands in for Traefik in the tests of an example, since neither
// its image nor its source can be had on a test machine. It does what the example
// rests on and nothing more: it serves the certificates that the files of a folder
// name, and reads all of it again when something happens to a file of that folder.
// Of what lies below it sees nothing, as the file provider does.
package main

import (
	"crypto/tls"
	"errors"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// dynamic is what is read of a file of the folder.
type dynamic struct {
	TLS struct {
		Certificates []struct {
			CertFile string `yaml:"certFile"`
			KeyFile  string `yaml:"keyFile"`
		}
	}
	HTTP struct {
		Services map[string]struct {
			LoadBalancer struct {
				Servers []struct{ URL string }
			} `yaml:"loadBalancer"`
		}
	}
}

// loaded is what all files of the folder say together.
type loaded struct {
	certificates []tls.Certificate
	service      *url.URL
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	flags := map[string]string{}
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		flags[name] = value
	}
	folder, address := flags["providers.file.directory"], flags["entrypoints.websecure.address"]
	if folder == "" || address == "" {
		return errors.New("the folder or the address is missing")
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.InotifyAddWatch(watch, folder, unix.IN_ATTRIB|unix.IN_CREATE|unix.IN_MODIFY|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE); err != nil {
		return err
	}
	var now atomic.Pointer[loaded]
	now.Store(load(folder))
	go func() {
		for events := make([]byte, 4096); ; now.Store(load(folder)) {
			if _, err := unix.Read(watch, events); err != nil && !errors.Is(err, unix.EINTR) {
				log.Fatal(err)
			}
		}
	}()
	return serve(address, &now)
}

func load(folder string) *loaded {
	all := &loaded{}
	files, _ := filepath.Glob(filepath.Join(folder, "*.yml")) // the pattern is none that can be wrong
	for _, file := range files {
		var said dynamic
		text, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(text, &said)
		}
		if err != nil {
			log.Print(err)
			continue
		}
		for _, pair := range said.TLS.Certificates {
			certificate, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
			if err != nil {
				log.Print(err)
				continue
			}
			all.certificates = append(all.certificates, certificate)
		}
		for _, service := range said.HTTP.Services {
			for _, server := range service.LoadBalancer.Servers {
				if all.service, err = url.Parse(server.URL); err != nil {
					log.Print(err)
				}
			}
		}
	}
	log.Printf("%d certificates", len(all.certificates))
	return all
}

func serve(address string, now *atomic.Pointer[loaded]) error {
	server := &http.Server{
		Addr: address, ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			for _, certificate := range now.Load().certificates {
				if certificate.Leaf.VerifyHostname(hello.ServerName) == nil {
					return &certificate, nil
				}
			}
			return nil, errors.New("no certificate for " + hello.ServerName)
		}},
		Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			if service := now.Load().service; service != nil {
				r.SetURL(service)
			}
		}},
	}
	return server.ListenAndServeTLS("", "")
}
