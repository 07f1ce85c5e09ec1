// Package movein reads what other ACME clients keep on disk: certbot, acme.sh and
// lego. It finds their accounts and certificates, with the keys, and how each
// certificate is renewed.
//
// It reads only, and only below the folder that it is given: a link that leads out
// of it is not followed, what is no regular file is not opened, and nothing is run
// that a configuration names. What it cannot read is a Problem of that account or
// certificate and never the end of the others.
//
//	DIR ─► Read ─► Found{Accounts, Certificates, Problems}
//
// Keys are held in Secret, which prints as nothing.
package movein
