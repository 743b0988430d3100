package cloudinit

import "strings"

// Prefix begins the config keys that hold SSH keys.
const Prefix = "cloud-init.ssh-keys."

// The config keys of seed data. cloud-init reads the first of each pair that
// the guest has.
var (
	VendorDataKeys = [2]string{"cloud-init.vendor-data", "user.vendor-data"} // read only
	UserDataKeys   = [2]string{"cloud-init.user-data", "user.user-data"}     // read only
)

// Result is what became of one config key.
type Result struct {
	Key   string
	Value string // the seed data with the SSH keys; "": the guest reads the value as it is
	Err   error  // why it could not be merged
}

// Merge returns a Result for each key of seed data, or nil when no SSH key is given. value returns the value of a config key, "" for an
// absent one; sshKeys are the values of the config keys that begin with [Prefix], in the order in which they are added.
func Merge(value func(key string) string, sshKeys []string) []Result {
	accounts := parseAccounts(sshKeys)
	if len(accounts) == 0 {
		return nil
	}
	// The vendor-data that cloud-init reads beside the user-data.
	effective := VendorDataKeys[0]
	if value(effective) == "" {
		effective = VendorDataKeys[1]
	}
	results := make([]Result, 0, len(VendorDataKeys)+len(UserDataKeys))
	vendorHasUsers := false
	for _, key := range VendorDataKeys {
		r := Result{Key: key}
		doc, err := parse(value(key))
		if r.Err = err; err == nil {
			vendorHasUsers = vendorHasUsers || key == effective && doc.hasUsers()
			r.Value, r.Err = doc.withKeys(accounts)
		}
		results = append(results, r)
	}
	for _, key := range UserDataKeys {
		r := Result{Key: key}
		doc, err := parse(value(key))
		if r.Err = err; err == nil && (doc.hasUsers() || !vendorHasUsers) {
			r.Value, r.Err = doc.withKeys(accounts)
		}
		results = append(results, r)
	}
	return results
}

// account is a user of the guest with the keys that it gets.
type account struct {
	name       string
	publicKeys []string
	importIDs  []string
}

// parseAccounts gathers the keys by user, in order of appearance. A key that
// is there twice counts once.
func parseAccounts(sshKeys []string) []*account {
	var accounts []*account
	byName := make(map[string]*account)
	seen := make(map[string]bool)
	for _, value := range sshKeys {
		value = strings.TrimRight(value, "\r\n") // of the file that it was read from
		name, key, _ := strings.Cut(value, ":")
		if name == "" || key == "" || seen[value] {
			continue
		}
		seen[value] = true
		a := byName[name]
		if a == nil {
			a = &account{name: name}
			byName[name], accounts = a, append(accounts, a)
		}
		// A public key is "TYPE BASE64 COMMENT"; an import id (gh:joe) never has a space.
		if strings.Contains(key, " ") {
			a.publicKeys = append(a.publicKeys, key)
		} else {
			a.importIDs = append(a.importIDs, key)
		}
	}
	return accounts
}
