package xfrm

import (
	"fmt"
	"strconv"
	"strings"
)

// StatisticsFile has the IPsec errors of the network namespace of the thread that reads it. It is there in kernels with
// CONFIG_XFRM_STATISTICS.
const StatisticsFile = "/proc/thread-self/net/xfrm_stat"

// Statistic is how often something went wrong in a namespace since it was made: packets that are lost, without saying whose.
type Statistic struct {
	Name  string // the kernel's, such as XfrmInNoPols
	Value uint64
}

// ParseStatistics reads what StatisticsFile holds: a line for each counter, with its name and its value. Kernels have different
// ones; all are returned, in the file's order.
func ParseStatistics(text string) ([]Statistic, error) {
	var out []Statistic
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 2 {
			return nil, fmt.Errorf("xfrm: statistics: %q is not a counter", line)
		}
		value, err := strconv.ParseUint(words[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("xfrm: statistics: %w", err)
		}
		out = append(out, Statistic{words[0], value})
	}
	return out, nil
}
