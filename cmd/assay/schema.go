package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assay-ci/assay/checks"
)

func newSchemaCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of formulas, for editors",
		Long: `Schema prints the JSON Schema (draft 2020-12) of formulas. An editor that knows
it completes and checks them while they are written. A server has it at
/schema/formula.json.

An editor with the YAML language server finds it by a comment in the formula:

  # yaml-language-server: $schema=` + checks.SchemaID,
		Example: "  assay schema > formula.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := e.out.Write(checks.Schema()); err != nil {
				return fmt.Errorf("cannot write the schema: %w", err)
			}
			return nil
		},
	}
}
