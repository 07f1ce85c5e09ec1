package remote_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// awsAuthorization is the header of AWS Signature Version 4.
var awsAuthorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)/([0-9]{8})/([a-z0-9-]+)/([a-z0-9]+)/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

const awsClockSkew = 5 * time.Minute

// checkSignature computes the signature of a request from AWS' description, with
// nothing of AWS' library, and compares it.
func checkSignature(r *http.Request, body []byte, region, service string, secrets map[string]string, now time.Time) error {
	parts := awsAuthorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if parts == nil {
		return errors.New("there is no signature")
	}
	secret, known := secrets[parts[1]]
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	switch {
	case !known:
		return errors.New("nobody knows the key")
	case err != nil || at.Format("20060102") != parts[2] || now.Sub(at).Abs() > awsClockSkew:
		return errors.New("of another time")
	case parts[3] != region || parts[4] != service:
		return errors.New("of another scope")
	}
	names := strings.Split(parts[5], ";")
	for _, needed := range []string{"content-type", "host", "x-amz-date", "x-amz-target"} {
		if !slices.Contains(names, needed) {
			return errors.New(needed + " is not signed")
		}
	}
	canonical := []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery}
	for _, name := range names {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		canonical = append(canonical, name+":"+strings.TrimSpace(value))
	}
	canonical = append(canonical, "", parts[5], hexSHA256(body))
	scope := strings.Join(parts[2:5], "/") + "/aws4_request"
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hexSHA256([]byte(strings.Join(canonical, "\n")))}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range strings.Split(scope, "/") {
		key = mac(key, part)
	}
	if got, err := hex.DecodeString(parts[6]); err != nil || !hmac.Equal(got, mac(key, toSign)) {
		return errors.New("another signature")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexSHA256(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
