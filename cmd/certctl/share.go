package main

import "fmt"

// sharedKeys prints who lacks a key that agents share.
func (s *session) sharedKeys(status object) {
	holders, _ := status["holders"].([]any)
	for _, holder := range holders {
		members, _ := holder.(object)["members"].([]any)
		if len(members) == 0 {
			continue
		}
		fmt.Fprintf(s.out, "   key         one for %d agents\n", len(members))
		for _, member := range members {
			if state := cell(member, "key"); state != "has" {
				fmt.Fprintf(s.out, "               %s: %s\n", cell(member, "agent.name"), state)
			}
		}
	}
}
