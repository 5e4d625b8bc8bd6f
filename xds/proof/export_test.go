package proof

// Words lists each message and field that the proof understands, for tests.
func Words() map[string][]string {
	list := map[string][]string{}
	for message, fields := range known().messages {
		list[string(message)] = nil
		for field := range fields {
			list[string(message)] = append(list[string(message)], string(field))
		}
	}
	return list
}
