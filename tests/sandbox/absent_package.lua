-- ends: error
-- says: package is not available to scripts
package.loadlib('x', '*')
