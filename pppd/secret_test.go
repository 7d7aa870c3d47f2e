package pppd

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// checkHidden fails if the secret appears in any usual rendering of the values.
func checkHidden(t *testing.T, secret string, values ...any) {
	t.Helper()
	for _, v := range values {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		hidden := []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), fmt.Sprintf("%x", secret), fmt.Sprint([]byte(secret))}
		forms := []string{string(j)}
		if _, isLink := v.(*Link); !isLink { // nobody prints a Link; its Config would be followed by pointer only
			forms = append(forms, fmt.Sprint(v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%s", v), fmt.Sprintf("%d", v), fmt.Sprintf("%x", v), fmt.Sprintf("%q", v))
		}
		for _, form := range forms {
			for _, h := range hidden {
				if strings.Contains(form, h) {
					t.Errorf("%T shows its secret: %s", v, form)
				}
			}
		}
	}
}
