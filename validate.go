package polder

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// checker turns file shapes into the Model's values, and says what is wrong
// with them.
type checker struct {
	*decoder
	shape   configShape
	folders map[string]string // of the files, by name

	// Whether what is not in the shape does not exist: else it may be in a part
	// that could not be read, and its absence is no fault to report.
	sureOfRegions bool
	sureOfTenants bool
	sureOfPrices  bool
	jurisdictions []string // carried by a region, sorted
	prices        *Prices
	tenants       map[TenantName]bool
	declared      []declaration
}

func newChecker(files []File) *checker {
	c := &checker{
		decoder: newDecoder(),
		folders: make(map[string]string, len(files)),
		tenants: make(map[TenantName]bool),
	}
	for _, f := range files {
		c.folders[f.Name] = f.folder()
	}
	return c
}

// check converts everything. What it returns lacks the services, which are in
// c.declared, and tenants with a fault.
func (c *checker) check() *Model {
	parts := &Model{}
	before := len(c.faults)
	for _, name := range slices.Sorted(maps.Keys(c.shape.Regions)) {
		parts.Regions = append(parts.Regions, c.region(name, c.shape.Regions[name]))
	}
	if len(c.shape.Regions) == 0 {
		if _, ok := c.places["regions"]; ok && len(c.faults) == before && !c.broken.all {
			c.wrong("regions", "there is no region", `write at least one: `+exampleOf[configShape]("regions"))
		}
	}
	whole := !c.partial && !c.strangeTop()
	c.sureOfRegions = whole && !c.faulty["regions"] && len(c.shape.Regions) > 0
	c.sureOfTenants = whole && (c.shape.Tenants != nil || !c.faulty["tenants"])
	c.jurisdictions = carried(parts.Regions)
	if c.shape.DNS != nil {
		parts.Naming = c.naming(*c.shape.DNS, parts)
	}
	if c.shape.Prices != nil {
		c.prices = c.priceList(*c.shape.Prices)
		parts.Prices = c.prices
	}
	c.sureOfPrices = whole && !c.faulty["prices"]
	for _, name := range slices.Sorted(maps.Keys(c.shape.Tenants)) {
		release := c.own("tenants", name)
		tenant := c.tenantOf(name, c.shape.Tenants[name])
		release()
		c.tenants[tenant.Name] = !c.broken.tenants[tenant.Name]
		if c.tenants[tenant.Name] {
			parts.Tenants = append(parts.Tenants, tenant)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.shape.Services)) {
		release := c.own("services", name)
		c.declare(name, c.shape.Services[name], parts.Regions)
		release()
	}
	slices.SortFunc(c.declared, func(a, b declaration) int { return a.at.compare(b.at) })
	return parts
}

// strangeTop tells whether there are unknown keys at the top, which may be
// misspelt sections.
func (c *checker) strangeTop() bool {
	for path := range c.faulty {
		_, known := findField(fieldsOf(reflect.TypeFor[configShape]()), path)
		if !known && !strings.ContainsAny(path, ".[") {
			return true
		}
	}
	return false
}

func carried(regions []Region) []string {
	seen := make(map[string]bool)
	for _, r := range regions {
		for _, j := range r.Jurisdictions {
			seen[string(j)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func (c *checker) regionNames() []string { return slices.Sorted(maps.Keys(c.shape.Regions)) }

// oneOf checks a word of a closed choice. Empty means absent, and the first
// choice.
func oneOf[T ~string](c *checker, path, word string, choices ...T) T {
	names := make([]string, len(choices))
	for i, choice := range choices {
		names[i] = string(choice)
	}
	if _, present := c.places[path]; !present {
		return choices[0]
	}
	if i := slices.Index(names, word); i >= 0 {
		return choices[i]
	}
	if !c.faulty[path] {
		c.wrong(path, quote(word)+" is not a choice", "write "+alternatives(word, names))
	}
	return choices[0]
}

// alternatives is the name that was probably meant, or all of them.
func alternatives(word string, names []string) string {
	if near, ok := nearest(word, names); ok {
		return near
	}
	if len(names) == 0 {
		return "a name that is declared"
	}
	const most = 8
	if len(names) > most {
		return "one of: " + strings.Join(names[:most], ", ") + ", …"
	}
	return "one of: " + strings.Join(names, ", ")
}

// unique reports items that were there before. Items are compared as written.
func (c *checker) unique(path string, items []string) {
	first := make(map[string]int, len(items))
	for i, item := range items {
		if j, ok := first[item]; ok {
			c.wrong(index(path, i), fmt.Sprintf("%s is in the list twice; the first is at %s", quote(item), c.places[index(path, j)].value), "remove one of the two")
			continue
		}
		first[item] = i
	}
}

// present tells whether the file has a value at the path, and one without a
// fault so far: what could not be read is not judged once more.
func (c *checker) present(path string) bool {
	_, ok := c.places[path]
	return ok && !c.faulty[path]
}
