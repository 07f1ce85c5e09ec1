package certctl

import (
	"bytes"
	"testing"
	"time"
)

func TestSealIsBoundToItsInfo(t *testing.T) {
	t.Parallel()
	private, public, err := NewSealingKey()
	if err != nil || len(public) != SealingKeySize {
		t.Fatalf("public key of %d bytes, %v", len(public), err)
	}
	if again, err := SealingPublicKey(private); err != nil || !bytes.Equal(again, public) {
		t.Fatalf("the public key of the private one differs: %v", err)
	}
	now := time.Now()
	info := SealInfo{Purpose: SealPrivateKey, Object: NewID(now), Agent: NewID(now), SPKI: DigestOf([]byte("key"))}
	sealed, err := SealTo(public, info, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := OpenSealed(private, info, sealed); err != nil || string(plain) != "secret" {
		t.Fatalf("got %q, %v", plain, err)
	}
	other := info
	other.Agent = NewID(now)
	purpose := info
	purpose.Purpose = SealSecrets
	object := info
	object.Object = NewID(now)
	spki := info
	spki.SPKI = Digest{}
	for name, wrong := range map[string]SealInfo{"agent": other, "purpose": purpose, "object": object, "spki": spki} {
		if _, err := OpenSealed(private, wrong, sealed); ErrorCode(err) != Denied {
			t.Errorf("%s: got %v", name, err)
		}
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := OpenSealed(private, info, sealed); ErrorCode(err) != Denied {
		t.Errorf("altered: got %v", err)
	}
	if _, err := OpenSealed(private, info, nil); ErrorCode(err) != Denied {
		t.Errorf("empty: got %v", err)
	}
}
