package main

// config is what `./task up` takes from its environment.
type config struct {
	// databaseURL is a PostgreSQL to use instead of a private one
	// (CERTCTL_DATABASE_URL).
	databaseURL string
	// dataDir holds all state (CERTCTL_DATA_DIR, by default .certctl).
	dataDir string
	// listen is the API's address (CERTCTL_LISTEN, by default 127.0.0.1:8443).
	listen string
	// natsURL is a NATS to use instead of the embedded one (CERTCTL_NATS_URL).
	natsURL string
}

func readConfig(getenv func(string) string) config {
	valueOr := func(name, value string) string {
		if set := getenv(name); set != "" {
			return set
		}
		return value
	}
	return config{
		databaseURL: getenv("CERTCTL_DATABASE_URL"),
		dataDir:     valueOr("CERTCTL_DATA_DIR", ".certctl"),
		listen:      valueOr("CERTCTL_LISTEN", "127.0.0.1:8443"),
		natsURL:     getenv("CERTCTL_NATS_URL"),
	}
}
