package remote

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/certctl/certctl"
	"github.com/certctl/certctl/agent/target"
)

func awsWith(changed map[string]any) json.RawMessage {
	settings := map[string]any{"region": "eu-central-1"}
	maps.Copy(settings, changed)
	encoded, err := json.Marshal(settings)
	if err != nil {
		panic(err)
	}
	return encoded
}

func TestAWSACMSettings(t *testing.T) {
	t.Parallel()
	arn := "arn:aws:acm:eu-central-1:123456789012:certificate/0000"
	for _, good := range []map[string]any{
		nil, {"region": "us-gov-west-1"}, {"endpoint": "https://vpce-1.acm.eu-central-1.vpce.amazonaws.com"},
		{"credentials_file": "/etc/certctl/aws/credentials", "profile": "shop"}, {"arns": map[string]string{"shop": arn, "shop~rsa": arn}},
		{"listen": []string{"shop.example.com:443"}, "wait_seconds": 900},
	} {
		if err := Kinds().Validate("aws-acm", awsWith(good)); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	for _, bad := range []map[string]any{
		{"region": ""}, {"region": "eu-central-1.example.com/"}, {"region": "frankfurt"}, {"endpoint": "http://acm"}, {"endpoint": "https://me:x@acm"},
		{"endpoint": "https://acm/path"}, {"endpoint": "https://acm?x"}, {"endpoint": "https://"}, {"ca_file": "roots.pem"}, {"credentials_file": "~/.aws/credentials"},
		{"profile": "shop"}, {"credentials_file": "/a", "profile": "a]b"}, {"arns": map[string]string{"shop": "arn:aws:iam::123456789012:server-certificate/x"}},
		{"arns": map[string]string{"shop": "arn:aws:acm:us-east-1:123456789012:certificate/0000"}}, {"arns": map[string]string{"..": arn}}, {"arns": map[string]string{"shop~x": arn}},
		{"listen": []string{"443"}}, {"wait_seconds": 0}, {"wait_seconds": 901}, {"access_key_id": "AKIA"}, {"secret": "x"},
	} {
		if err := Kinds().Validate("aws-acm", awsWith(bad)); certctl.ErrorCode(err) != certctl.Invalid {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestAWSACMPolicy(t *testing.T) {
	t.Parallel()
	open := func(p target.Policy, changed map[string]any) error {
		_, err := Kinds().Open(certctl.TargetCommand{Name: "shop", Kind: "aws-acm", Settings: awsWith(changed)}, target.Env{Policy: p, Now: time.Now, StateDir: t.TempDir()})
		return err
	}
	with := map[string]any{"credentials_file": "/etc/certctl/aws/credentials"}
	for refused, want := range map[string]certctl.Code{
		"": "", "acm.eu-central-1.amazonaws.com:443": certctl.Denied, "/etc/certctl/aws/credentials": certctl.Denied,
	} {
		if err := open(policy{refused}, with); certctl.ErrorCode(err) != want {
			t.Errorf("%q refused: %v", refused, err)
		}
	}
	// Regions of other parts of AWS have other hosts.
	if err := open(policy{"acm.cn-north-1.amazonaws.com.cn:443"}, map[string]any{"region": "cn-north-1"}); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("of China: %v", err)
	}
	// A policy that says nothing of hosts allows none.
	if err := open(struct{ target.Policy }{policy{}}, nil); certctl.ErrorCode(err) != certctl.Denied {
		t.Errorf("no hosts: %v", err)
	}
}
