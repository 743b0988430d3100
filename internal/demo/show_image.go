package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// imageSize is the length of the generated images in bytes.
const imageSize = 8 << 20

// makeImage writes a file that begins like gzip, by which the server knows the type.
func makeImage(path string, seed uint64) (fingerprint string, err error) {
	data := make([]byte, imageSize)
	var key [32]byte
	key[0] = byte(seed)
	if _, err := rand.NewChaCha8(key).Read(data); err != nil {
		return "", err
	}
	copy(data, []byte{0x1f, 0x8b, 8, 0})
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), os.WriteFile(path, data, 0o600)
}

func export(fingerprint string) string { return "/1.0/images/" + fingerprint + "/export" }

// showImage imports a public and a private image and has cache download them.
func (t *Tour) showImage(ctx context.Context) error {
	fingerprints := make(map[string]string)
	for i, name := range []string{"public", "private"} {
		path := filepath.Join(t.options.RunDir, name+".tar.gz")
		fp, err := makeImage(path, uint64(i))
		if err != nil {
			return err
		}
		defer os.Remove(path)
		args := []string{"image", "import", path}
		if name == "public" {
			args = append(args, "--public")
		}
		t.p.command("", append([]string{"devlxd"}, args...)...)
		out, err := t.options.Command(ctx, args...)
		if err != nil {
			return err
		}
		if got := string(bytes.TrimSpace([]byte(out))); got != fp {
			return fmt.Errorf("the image %s got the fingerprint %s, must be its SHA-256 %s", path, got, fp)
		}
		t.p.check("%s (%d MiB)", fp, imageSize>>20)
		fingerprints[name] = fp
	}
	t.p.say("Images are not for everyone:")
	if err := t.exchange(ctx, "cache", exchange{get(export(fingerprints["public"])), t.texts.imageGate()}); err != nil {
		return err
	}
	if err := t.command(ctx, "config", "set", "cache", "security.devlxd.images=true"); err != nil {
		return err
	}
	if err := t.download(ctx, fingerprints["public"]); err != nil {
		return err
	}
	t.p.say("A private image is as absent as one that does not exist:")
	absent := func(fp string) exchange {
		return exchange{get(export(fp)), imageAnswer(404, t.texts.imageGone(fp))}
	}
	unknown := hex.EncodeToString(make([]byte, sha256.Size))
	return t.exchange(ctx, "cache", absent(fingerprints["private"]), absent(unknown))
}

// download compares the checksum that is computed inside.
func (t *Tour) download(ctx context.Context, fp string) error {
	r := get(export(fp))
	t.p.shell("cache", curl(r)+" | sha256sum")
	got, err := t.ask(ctx, "cache", order{Requests: []request{r}}, nil)
	if err != nil {
		return err
	}
	a := got.Answers[0]
	if a.Status != 200 || a.Size != imageSize || a.SHA256 != fp {
		return fmt.Errorf("the download of %s was answered %d with %d bytes of SHA-256 %s, must be 200 with %d bytes", fp, a.Status, a.Size, a.SHA256, imageSize)
	}
	t.p.check("%d %s  - (%d bytes)", a.Status, a.SHA256, a.Size)
	return nil
}
